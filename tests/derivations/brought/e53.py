import numpy as np


def relu(x):
    return np.maximum(0, x)


def relu_derivative(x):
    x[x <= 0] = 0
    x[x > 0] = 1
    return x


def back_propagation(features, labels, hidden_layer_weights, hidden_layer_bias, output_layer_weights, output_layer_bias):
    hidden_layer_output = relu(np.dot(features, hidden_layer_weights) + hidden_layer_bias)
    predictions = np.dot(hidden_layer_output, output_layer_weights) + output_layer_bias

    error = predictions - labels
    hidden_error = np.dot(error, output_layer_weights.T)
    hidden_delta = hidden_error * relu_derivative(hidden_layer_output)

    output_layer_weights_gradient = np.dot(hidden_layer_output.T, error) / len(features)
    output_layer_bias_gradient = np.mean(error, axis=0)
    hidden_layer_weights_gradient = np.dot(features.T, hidden_delta) / len(features)
    hidden_layer_bias_gradient = np.mean(hidden_delta, axis=0)
    return (hidden_layer_weights_gradient, hidden_layer_bias_gradient,
            output_layer_weights_gradient, output_layer_bias_gradient)
