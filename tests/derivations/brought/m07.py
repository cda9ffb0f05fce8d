import numpy as np
def backward(x,y,W1,b1,W2,b2):
    h=np.tanh(x@W1+b1); e=np.exp(h@W2+b2); p=e/e.sum(1,keepdims=True)
    d2=(p-y)/len(x); d1=d2@W2.T*(1-h*h)
    return x.T@d1,d1.sum(0),h.T@d2,d2.sum(0)
