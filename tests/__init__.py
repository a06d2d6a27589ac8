"""A package by name: verl installs one called `tests` too."""
