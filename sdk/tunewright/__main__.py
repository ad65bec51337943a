"""`python -m tunewright`: the command of an interpreter whose scripts are not on the path."""

from tunewright.cli.start import main

if __name__ == "__main__":
    main()
