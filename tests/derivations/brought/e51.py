# https://stackoverflow.com/questions/... : "my network does not learn XOR"
import numpy as np

X = np.array(([0, 0], [0, 1], [1, 0], [1, 1]), dtype=float)
target = np.array(([0], [1], [1], [0]), dtype=float)
ones = np.ones((X.shape[0], 1))
Xb = np.concatenate((X, ones), axis=1)

wHidden = np.random.uniform(-1, 1, size=(3, 4))
wOutput = np.random.uniform(-1, 1, size=(4, 1))
epochs, eta = 5000, 0.3

for i in range(epochs):
    hidden = 1 / (1 + np.exp(-Xb.dot(wHidden)))
    output = 1 / (1 + np.exp(-hidden.dot(wOutput)))

    outputError = target - output
    outputDelta = outputError * output * (1 - output)
    hiddenError = outputDelta.dot(wOutput.T)

    wOutput += eta * hidden.T.dot(outputDelta)
    wHidden += eta * Xb.T.dot(hiddenError)

print(output)
