"""Output of the commands. A view renders values that it is given; it does not call the library to compute them."""
