import numpy as np
class Net:
    def __init__(self, n_in, n_hid, n_out, lr=0.1):
        self.W1 = np.random.randn(n_in, n_hid); self.b1 = np.zeros(n_hid)
        self.W2 = np.random.randn(n_hid, n_out); self.b2 = np.zeros(n_out)
        self.lr = lr
        self.gW1 = np.zeros_like(self.W1); self.gb1 = np.zeros_like(self.b1)
        self.gW2 = np.zeros_like(self.W2); self.gb2 = np.zeros_like(self.b2)
    def fit(self, X, Y, epochs=1):
        for _ in range(epochs):
            # mistake: the accumulators are never set back to 0
            for x, y in zip(X, Y):
                h = np.tanh(x @ self.W1 + self.b1)
                d2 = h @ self.W2 + self.b2 - y
                d1 = self.W2 @ d2 * (1 - h * h)
                self.gW2 += np.outer(h, d2); self.gb2 += d2
                self.gW1 += np.outer(x, d1); self.gb1 += d1
            for p, g in ((self.W1, self.gW1), (self.b1, self.gb1), (self.W2, self.gW2), (self.b2, self.gb2)):
                p -= self.lr * g / len(X)
