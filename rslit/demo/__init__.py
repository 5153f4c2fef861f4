"""The page of `rslit demo`: click a front or move sliders, and see what the poured model does.

One process holds one model and all ingredients of a sweep. A visitor's λ lives in the visitor's session; the model is
poured and played under a lock (`rslit.demo.live`), so visitors wait for one another but never see another's λ.
"""
