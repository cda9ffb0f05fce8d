"""The equations: activations, losses, the forward and delta recursions, the autograd Functions, the MLP module.

This package imports only torch. `activations` and `losses` import not even that, so that the command line and tab
completion can list the names without waiting for torch.
"""
