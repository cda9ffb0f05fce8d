"""No numpy: a network whose weights are lists of lists. weights[i][j] goes from unit i to unit j."""
import math
import random


class ListNet:
    def __init__(self, n_in, n_hid, n_out):
        self.wh = [[random.gauss(0, 1) for _ in range(n_hid)] for _ in range(n_in)]
        self.bh = [0.0] * n_hid
        self.wo = [[random.gauss(0, 1) for _ in range(n_out)] for _ in range(n_hid)]
        self.bo = [0.0] * n_out

    def run(self, sample):
        n_hid, n_out = len(self.bh), len(self.bo)
        self.hid = [math.tanh(self.bh[j] + sum(s * self.wh[i][j] for i, s in enumerate(sample)))
                    for j in range(n_hid)]
        raw = [self.bo[k] + sum(self.hid[j] * self.wo[j][k] for j in range(n_hid)) for k in range(n_out)]
        top = max(raw)
        total = sum(math.exp(r - top) for r in raw)
        return [math.exp(r - top) / total for r in raw]

    def learn(self, sample, target, rate=0.1):
        probs = self.run(sample)
        d_out = [p - t for p, t in zip(probs, target)]
        d_hid = []
        for j, h in enumerate(self.hid):
            s = 0.0
            for k, d in enumerate(d_out):
                s += d * self.wo[j][k]
            d_hid.append(s * (1 - h * h))
        for j, h in enumerate(self.hid):
            for k, d in enumerate(d_out):
                self.wo[j][k] -= rate * d * h
        for k, d in enumerate(d_out):
            self.bo[k] -= rate * d
        for i, s in enumerate(sample):
            for j, d in enumerate(d_hid):
                self.wh[i][j] -= rate * d * s
        for j, d in enumerate(d_hid):
            self.bh[j] -= rate * d
