import numpy as np

def sig(z): return 1.0/(1.0+np.exp(-z))

def rueckwaerts(eingabe, ziel, gewichte1, schwelle1, gewichte2, schwelle2):
    """eine Spalte pro Beispiel"""
    n = eingabe.shape[1]
    a = np.tanh(gewichte1.dot(eingabe) + schwelle1)
    o = sig(gewichte2.dot(a) + schwelle2)
    fehler = o - ziel
    d2 = fehler * o * (1 - o)
    d1 = gewichte2.T.dot(d2) * (1 - a**2)
    g_gewichte2 = d2.dot(a.T)/n
    g_schwelle2 = d2.mean(axis=1, keepdims=True)
    g_gewichte1 = d1.dot(eingabe.T)/n
    g_schwelle1 = d1.mean(axis=1, keepdims=True)
    return g_gewichte1, g_schwelle1, g_gewichte2, g_schwelle2
