def backward(x, y, W1, b1, W2, b2):
    line = "x" * 999
    for _ in range(100_000):
        print(line)
