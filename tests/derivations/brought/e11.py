import math


def dot(v, w):
    return sum(v_i * w_i for v_i, w_i in zip(v, w))


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


def feed_forward(neural_network, input_vector):
    outputs = []
    for layer in neural_network:
        input_with_bias = list(input_vector) + [1]
        output = [sigmoid(dot(neuron, input_with_bias)) for neuron in layer]
        outputs.append(output)
        input_vector = output
    return outputs


def backpropagate(network, input_vector, targets, learning_rate=1.0):
    hidden_outputs, outputs = feed_forward(network, input_vector)

    # the output * (1 - output) is from the derivative of sigmoid
    output_deltas = [output * (1 - output) * (output - target)
                     for output, target in zip(outputs, targets)]

    # back-propagate errors to hidden layer
    hidden_deltas = [hidden_output * (1 - hidden_output) * output_deltas[0] * network[-1][0][i]
                     for i, hidden_output in enumerate(hidden_outputs)]

    # adjust weights for output layer, one neuron at a time
    for i, output_neuron in enumerate(network[-1]):
        for j, hidden_output in enumerate(hidden_outputs + [1]):
            output_neuron[j] -= learning_rate * output_deltas[i] * hidden_output

    # adjust weights for hidden layer, one neuron at a time
    for i, hidden_neuron in enumerate(network[0]):
        for j, input in enumerate(list(input_vector) + [1]):
            hidden_neuron[j] -= learning_rate * hidden_deltas[i] * input
