import numpy as np


def backward(x, y, W1, b1, W2, b2):
    history = []
    for step in range(1000):
        history.append(np.ones(100_000_000 // 8) * step)   # 1000 times 100 MB
    return {"dW1": W1, "db1": b1, "dW2": W2, "db2": b2}
