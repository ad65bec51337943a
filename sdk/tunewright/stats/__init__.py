"""Paired comparisons and intervals. A library for stages and plugins; numpy, scipy and statsmodels load when called."""
