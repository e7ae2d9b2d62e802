"""Questions about the demo product with known answers, and who answers them: references, a clumsy script, or a model.

``python -m evals`` needs no key and no network; see ``evals/README.md``.
"""
