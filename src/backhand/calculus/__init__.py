"""The equations: activations, losses, the forward and delta recursions, the autograd Functions, the MLP module.

torch and nothing else. `activations` and `losses` import nothing at all, so that whoever only wants to know the names
(the command line, tab completion) does not wait for torch.
"""
