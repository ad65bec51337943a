"""A library for evaluators: what an answer is worth beside a reference, by its words, number, structure, refusal.

    from tunewright.grading import text
    text.token_f1("about 3 minutes", ["3 minutes", "three minutes"])  # 0.8

Every function is pure, knows no model and imports nothing heavy.
"""
