def backward(x, y, W1, b1, W2, b2):
    return {"dW1": "x.T @ dz1", "db1": "dz1.sum(0)", "dW2": "h.T @ dz2", "db2": "dz2.sum(0)"}
