from math import exp

def activate(weights, inputs):
    activation = weights[-1]
    for i in range(len(weights) - 1):
        activation += weights[i] * inputs[i]
    return activation

def transfer(activation):
    return 1.0 / (1.0 + exp(-activation))

def forward_propagate(network, row):
    inputs = row
    for layer in network:
        new_inputs = []
        for neuron in layer:
            neuron['output'] = transfer(activate(neuron['weights'], inputs))
            new_inputs.append(neuron['output'])
        inputs = new_inputs
    return inputs

def transfer_derivative(output):
    return output * (1.0 - output)

def backward_propagate_error(network, expected):
    for i in reversed(range(len(network))):
        layer = network[i]
        errors = []
        if i != len(network) - 1:
            for j in range(len(layer)):
                error = 0.0
                for neuron in network[i + 1]:
                    error += neuron['weights'][j] * neuron['delta']
                errors.append(error)
        else:
            for j in range(len(layer)):
                errors.append(layer[j]['output'] - expected[j])
        for j in range(len(layer)):
            layer[j]['delta'] = errors[j] * transfer_derivative(errors[j])

def update_weights(network, row, l_rate):
    for i in range(len(network)):
        inputs = row
        if i != 0:
            inputs = [neuron['output'] for neuron in network[i - 1]]
        for neuron in network[i]:
            for j in range(len(inputs)):
                neuron['weights'][j] -= l_rate * neuron['delta'] * inputs[j]
            neuron['weights'][-1] -= l_rate * neuron['delta']

def make(W1, b1, W2, b2):
    hid = [{'weights': [W1[i][j] for i in range(len(W1))] + [b1[j]]} for j in range(len(b1))]
    out = [{'weights': [W2[i][j] for i in range(len(W2))] + [b2[j]]} for j in range(len(b2))]
    return [hid, out]

def step(x, y, W1, b1, W2, b2):
    n = make(W1, b1, W2, b2)
    forward_propagate(n, x)
    backward_propagate_error(n, y)
    update_weights(n, x, 0.5)
    hid, out = n
    return {'W1': [[h['weights'][i] for h in hid] for i in range(len(x))], 'b1': [h['weights'][-1] for h in hid],
            'W2': [[o['weights'][i] for o in out] for i in range(len(hid))], 'b2': [o['weights'][-1] for o in out]}
