import torch as T
x = T.randn(16, 9)
y = T.randn(16, 2)
w1 = T.randn(9, 7)
w2 = T.randn(7, 2)
for t in range(5):
    h = T.tanh(x @ w1)
    d2 = 2 * (h @ w2 - y)
    d1 = d2 @ w2.t() * (1 - h * h)
    w1 -= 0.01 * x.t() @ d1
    w2 -= 0.01 * h.t() @ d2
