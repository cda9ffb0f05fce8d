# two-layer regression as a script without functions (the weights have biases)
import numpy as np
np.random.seed(0)
n, d_in, d_hid, d_out = 64, 10, 20, 2
x = np.random.randn(n, d_in)
t = np.random.randn(n, d_out)
w_ih, b_h = np.random.randn(d_in, d_hid) * 0.1, np.zeros(d_hid)
w_ho, b_o = np.random.randn(d_hid, d_out) * 0.1, np.zeros(d_out)
step_size = 1e-2
for epoch in range(500):
    net_h = x @ w_ih + b_h
    out_h = np.tanh(net_h)
    net_o = out_h @ w_ho + b_o
    err = net_o - t
    d_w_ho = out_h.T @ err / n
    d_b_o = err.mean(0)
    back = err @ w_ho.T
    d_net_h = back * (1 - np.tanh(out_h) ** 2)
    d_w_ih = x.T @ d_net_h / n
    d_b_h = d_net_h.mean(0)
    w_ho -= step_size * d_w_ho
    b_o -= step_size * d_b_o
    w_ih -= step_size * d_w_ih
    b_h -= step_size * d_b_h
