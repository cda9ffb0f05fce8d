import numpy as np


class Linear:
    def __init__(self, in_features, out_features):
        self.weight = np.random.randn(out_features, in_features) * 0.1
        self.bias = np.zeros((1, out_features))

    def forward(self, x):
        self.input = x
        return np.matmul(x, self.weight.T) + self.bias

    def backward(self, grad_output):
        self.grad_weight = np.matmul(grad_output.T, self.input)
        self.grad_bias = grad_output
        return np.matmul(grad_output, self.weight)


class Sigmoid:
    def forward(self, x):
        self.output = 1 / (1 + np.exp(-x))
        return self.output

    def backward(self, grad_output):
        return grad_output * self.output * (1 - self.output)


class MSELoss:
    def forward(self, pred, target):
        self.diff = pred - target
        return np.mean(self.diff ** 2)

    def backward(self):
        return 2 * self.diff / self.diff.size


class Net:
    def __init__(self, d, h, c):
        self.fc1, self.act, self.fc2, self.loss = Linear(d, h), Sigmoid(), Linear(h, c), MSELoss()

    def forward(self, x):
        return self.fc2.forward(self.act.forward(self.fc1.forward(x)))

    def backward(self, x, y):
        self.loss.forward(self.forward(x), y)
        self.fc1.backward(self.act.backward(self.fc2.backward(self.loss.backward())))
        return self.fc1.grad_weight, self.fc1.grad_bias, self.fc2.grad_weight, self.fc2.grad_bias
