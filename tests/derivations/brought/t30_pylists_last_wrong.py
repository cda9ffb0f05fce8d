# no numpy allowed in this homework

def relu(v):
    return v if v > 0 else 0.0

def gradients(X, Y, W1, b1, W2, b2):
    n = len(X)
    D, H, K = len(W1), len(W1[0]), len(W2[0])
    dW1 = [[0.0] * H for _ in range(D)]
    db1 = [0.0] * H
    dW2 = [[0.0] * K for _ in range(H)]
    db2 = [0.0] * K
    for s in range(n):
        x, y = X[s], Y[s]
        z = [sum(x[i] * W1[i][j] for i in range(D)) + b1[j] for j in range(H)]
        h = [relu(v) for v in z]
        o = [sum(h[j] * W2[j][k] for j in range(H)) + b2[k] for k in range(K)]
        e = [o[k] - y[k] for k in range(K)]
        for k in range(K):
            db2[k] += e[k] / n
            for j in range(H):
                dW2[j][k] += e[k] * h[j] / n
        for j in range(H):
            back = sum(e[k] * W2[j][k] for k in range(K))
            if z[j] <= 0:
                back = 0.0
            db1[j] = back / n
            for i in range(D):
                dW1[i][j] += back * x[i] / n
    return dW1, db1, dW2, db2
