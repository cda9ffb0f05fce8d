import numpy as np

def train(X, Y, W1, b1, W2, b2, lr=0.1, epochs=1, batch_size=32):
    for _ in range(epochs):
        for s in range(0, len(X), batch_size):
            xb, yb = X[s:s + batch_size], Y[s:s + batch_size]
            a = np.einsum('bi,ij->bj', xb, W1) + b1
            h = a / (1 + np.exp(-a))                       # swish / silu
            o = np.einsum('bj,jk->bk', h, W2) + b2
            go = (o - yb) / len(xb)
            gW2 = np.einsum('bj,bk->jk', h, go)
            gb2 = np.einsum('bk->k', go)
            gh = np.einsum('bk,jk->bj', go, W2)
            sg = 1 / (1 + np.exp(-a))
            ga = gh * (sg + a * (1 - sg))
            gW1 = np.einsum('bi,bj->ij', xb, ga)
            gb1 = np.einsum('bj->j', ga)
            W1 = W1 - lr * gW1; b1 = b1 - lr * gb1
            W2 = W2 - lr * gW2; b2 = b2 - lr * gb2
    return W1, b1, W2, b2
