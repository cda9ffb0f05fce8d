import numpy as np


class Softplus:
    def forward(self, inputs):
        self.inputs = inputs
        return np.maximum(inputs, 0) + np.log1p(np.exp(-np.abs(inputs)))

    def backward(self, dvalues):
        self.dinputs = dvalues / (1 + np.exp(-self.inputs))
        return self.dinputs
