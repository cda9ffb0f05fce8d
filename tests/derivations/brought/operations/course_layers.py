import numpy as np
class Conv2D:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
    def forward(self, x):
        N,C,H,Wd = x.shape; F,_,h,w = self.W.shape
        self.x = x
        oh, ow = H-h+1, Wd-w+1
        out = np.zeros((N,F,oh,ow))
        for i in range(oh):
            for j in range(ow):
                out[:,:,i,j] = np.einsum('nchw,fchw->nf', x[:,:,i:i+h,j:j+w], self.W) + self.b
        return out
    def backward(self, dout):
        dx = np.zeros_like(self.x); self.dW = np.zeros_like(self.W)
        h, w = self.W.shape[2:]
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                self.dW += np.einsum('nf,nchw->fchw', dout[:,:,i,j], self.x[:,:,i:i+h,j:j+w])
                dx[:,:,i:i+h,j:j+w] += np.einsum('nf,fchw->nchw', dout[:,:,i,j], self.W)
        self.db = dout.sum(axis=(0,2,3))
        return dx
class ReLU:
    def forward(self, z):
        self.z = z
        return np.maximum(z, 0)
    def backward(self, da):
        return da * (self.z > 0)
class SoftmaxCrossEntropy:
    def forward(self, logits, labels):
        z = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(z); p /= p.sum(axis=1, keepdims=True)
        self.p, self.labels = p, labels
        return -np.log(p[np.arange(len(labels)), labels]).mean()
    def backward(self):
        d = self.p.copy()
        d[np.arange(len(self.labels)), self.labels] -= 1
        return d / len(self.labels)
class Dense:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out) * .1
        self.b = np.zeros((1, n_out))
    def forward(self, X):
        self.X = X
        return X @ self.W + self.b
    def backward(self, dZ):
        m = self.X.shape[0]
        self.dW = self.X.T @ dZ / m
        self.db = dZ.sum(axis=0, keepdims=True) / m
        return dZ @ self.W.T
def sigmoid(x, derivative=False):
    s = 1/(1+np.exp(-x))
    return s*(1-s) if derivative else s
def sigmoid_d(x): return sigmoid(x, True)
def log_cosh(y_true, y_pred): return np.log(np.cosh(y_pred - y_true)).mean()
def log_cosh_grad(y_true, y_pred): return np.tanh(y_pred - y_true)/y_true.size
def layer(x, W): return np.tanh(x @ W)
def layer_vjp(dout, x, W):
    d = dout * (1 - np.tanh(x @ W)**2)
    return d @ W.T, x.T @ d
def cross_entropy(p, t): return -np.log(p[np.arange(len(t)), t]).mean()
def cross_entropy_grad(p, t):
    g = np.zeros_like(p); g[np.arange(len(t)), t] = -1/p[np.arange(len(t)), t]/len(t)
    return g
def exp(x): return np.exp(x)
def exp_back(grad, out): return grad*out
def power(x, p): return x**p
def power_grad(x, p): return p*x**(p-1)
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True)); return e/e.sum(axis=-1, keepdims=True)
def softmax_prime(x):
    s = softmax(x); return s*(1-s)
def quad(x): return np.sum(x**2)
def quad_grad(x): return 2*x
def mse_cols(A, Y): return np.sum((A-Y)**2)/(2*A.shape[0])
def mse_cols_grad(A, Y): return (A-Y)/A.shape[0]
