"""Clough's experiment 2 on public data: unlabelled images with a topological prior.

Clough et al. 2020, section 4.2, segment the myocardium in 80 x 80 crops around the left ventricle,
degraded by removing m of 80 lines of the Fourier transform, with 10 to 100 labelled images and 400
unlabelled ones of UK Biobank. Here: the cavity of the left ventricle, prior (1, 0), in the slices
of 30 patients of the Sunnybrook Cardiac Data, 10, 20 or 40 of them labelled, m = 20 and 60. And the
ring of the myocardium, prior (1, 1), of the patients whose outer contours are at hand.
"""
