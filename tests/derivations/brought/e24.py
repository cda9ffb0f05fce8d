import numpy as np
from math import exp


def bp(x, t, wi, bi, wo, bo):
    n = len(x); ni = len(wi); nh = len(wi[0]); no = len(wo[0])
    gwi = np.zeros((ni, nh)); gbi = np.zeros(nh)
    gwo = np.zeros((nh, no)); gbo = np.zeros(no)
    for p in range(n):
        ah = [0.0]*nh
        for j in range(nh):
            s = bi[j]
            for i in range(ni):
                s += x[p][i]*wi[i][j]
            ah[j] = 1.0/(1.0+exp(-s))
        ao = [0.0]*no
        for k in range(no):
            s = bo[k]
            for j in range(nh):
                s += ah[j]*wo[j][k]
            ao[k] = 1.0/(1.0+exp(-s))
        do = [0.0]*no
        for k in range(no):
            do[k] = (ao[k]-t[p][k])*ao[k]*(1.0-ao[k])
        dh = [0.0]*nh
        for j in range(nh-1):
            e = 0.0
            for k in range(no):
                e += do[k]*wo[j][k]
            dh[j] = e*ah[j]*(1.0-ah[j])
        for j in range(nh):
            for k in range(no):
                gwo[j][k] += do[k]*ah[j]
        for k in range(no):
            gbo[k] += do[k]
        for i in range(ni):
            for j in range(nh):
                gwi[i][j] += dh[j]*x[p][i]
        for j in range(nh):
            gbi[j] += dh[j]
    return gwi, gbi, gwo, gbo
