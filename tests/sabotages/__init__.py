"""Ways to break the code on purpose, and the tests that notice."""
