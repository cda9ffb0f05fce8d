import numpy as np


class Odd(Exception):
    def __str__(self):
        raise ValueError("no")


def backward(x, y, W1, b1, W2, b2):
    raise Odd()
