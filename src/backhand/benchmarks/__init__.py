"""How fast the program is beside other ways to do the same work; measured on demand, never asserted by a test."""
