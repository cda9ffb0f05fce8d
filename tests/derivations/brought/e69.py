# one neuron per class, "delta rule" with the sigmoid, samples one at a time; pure Python
import math


class TinyNet:
    def __init__(self, W, b, V, c):
        self.W, self.b, self.V, self.c = W, b, V, c

    def learn(self, x, t, rate=0.5):
        h = [math.tanh(sum(w * xi for w, xi in zip(row, x)) + bj) for row, bj in zip(self.W, self.b)]
        o = [1 / (1 + math.exp(-(sum(v * hj for v, hj in zip(row, h)) + ck))) for row, ck in zip(self.V, self.c)]
        d_o = [(ok - tk) * ok * (1 - ok) for ok, tk in zip(o, t)]
        d_h = [(1 - h[j] ** 2) * sum(d_o[k] * self.V[k][j] for k in range(len(o))) for j in range(len(h))]
        for k, dk in enumerate(d_o):
            self.c[k] -= rate * dk
            for j, hj in enumerate(h):
                self.V[k][j] -= rate * dk * hj
        for j, dj in enumerate(d_h):
            self.b[j] -= rate * dj
            for i, xi in enumerate(x):
                self.W[j][i] -= rate * dk * xi
