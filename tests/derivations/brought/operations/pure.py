import math
def softplus(x):
    return math.log(1 + math.exp(x))

def softplus_prime(x):
    return 1 / (1 + math.exp(-x))

def step(x):
    return 1 if x > 0 else 0

def step_prime(x):
    return 0
