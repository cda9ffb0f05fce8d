import math


def matvec(M, v, b):
    return [sum(m * x for m, x in zip(row, v)) + bias for row, bias in zip(M, b)]


def forward(x, w1, b1, w2, b2):
    hidden = [math.tanh(s) for s in matvec(w1, x, b1)]
    return hidden, matvec(w2, hidden, b2)


def backward(x, t, w1, b1, w2, b2):
    """Squared error of one sample, weights are lists of rows (one row per neuron)."""
    hidden, out = forward(x, w1, b1, w2, b2)
    d_out = [2 * (o - goal) for o, goal in zip(out, t)]
    dw2 = [[d * h for h in hidden] for d in d_out]
    db2 = d_out[:]
    d_hidden = []
    for j in range(len(hidden)):
        err = 0.0
        for k in range(len(out)):
            err = d_out[k] * w2[k][j]
        d_hidden.append(err * (1 - hidden[j] ** 2))
    dw1 = [[d * xi for xi in x] for d in d_hidden]
    db1 = d_hidden[:]
    return dw1, db1, dw2, db2
