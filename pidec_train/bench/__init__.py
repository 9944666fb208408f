"""How fast this machine trains, the upstream way and ours: `python -m pidec_train.bench`, or `pidec-train bench`.

Needs torch, numpy and the standard library, nothing else, so that it runs on a bare GPU machine from a checkout. A
test holds that.
"""
