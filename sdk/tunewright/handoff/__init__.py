"""What leaves for a client: the package, its zip, and the stand-alone check of both."""
