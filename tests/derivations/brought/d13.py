import numpy as np


class FullyConnectedNet(object):
    """{affine - relu} x (L - 1) - affine - softmax, with L2 regularization 0.5 * reg * sum(W ** 2)."""

    def __init__(self, hidden_dims, input_dim=4, num_classes=3, reg=0.0):
        self.reg = reg
        self.num_layers = 1 + len(hidden_dims)
        self.params = {}
        dims = [input_dim] + list(hidden_dims) + [num_classes]
        for i in range(self.num_layers):
            self.params['W%d' % (i + 1)] = 0.05 * np.random.randn(dims[i], dims[i + 1])
            self.params['b%d' % (i + 1)] = np.zeros(dims[i + 1])

    def loss(self, X, y):
        L, N = self.num_layers, X.shape[0]
        acts, pre = [X], []
        for l in range(1, L + 1):
            z = acts[-1].dot(self.params['W%d' % l]) + self.params['b%d' % l]
            pre.append(z)
            acts.append(np.maximum(z, 0) if l < L else z)
        scores = acts[-1] - acts[-1].max(axis=1, keepdims=True)
        probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        loss = -np.log(probs[range(N), y]).mean()
        for l in range(1, L + 1):
            loss += 0.5 * self.reg * np.sum(self.params['W%d' % l] ** 2)

        grads = {}
        d = probs
        d[range(N), y] -= 1
        d /= N
        for l in range(L, 0, -1):
            grads['W%d' % l] = acts[l - 1].T.dot(d)
            grads['b%d' % l] = d.sum(axis=0)
            if l > 1:
                d = d.dot(self.params['W%d' % l].T) * (pre[l - 2] > 0)
        for l in range(1, L):
            grads['W%d' % l] += self.reg * self.params['W%d' % l]
        return loss, grads
