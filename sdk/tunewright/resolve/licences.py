"""Which licences of a base bind what is made from it, by SPDX id. A first reading, not legal advice.

Permissive licences (Apache-2.0, MIT, BSD) let an adapter carry another one. Non-commercial and share-alike terms, and
the communities' own licences of Llama, Gemma and Qwen, go over to what is derived.
"""

from __future__ import annotations

import re

_BINDING = {
    r"cc-by-nc(-|$).*": "whose non-commercial terms bind what is made from it",
    r"cc-by-(sa|nd)(-|$).*": "whose terms bind what is made from it",
    r"(a|l)?gpl.*": "a share-alike licence that binds what is made from it",
    r"llama.*": "whose community terms bind what is made from it",
    r"gemma.*": "whose terms of use bind what is made from it",
    r"(tongyi-)?q(wen|ianwen).*": "whose terms bind what is made from it",
    r"(mrl|mnpl).*": "whose research terms bind what is made from it",
    r"openrail.*|.*openrail(-m|\+\+)?": "whose use restrictions bind what is made from it",
}


def clash(base: str, given: str) -> str:
    """Why the licence `given` cannot stand on a base under `base`; empty where it can, or where one is not known."""
    if not base or not given or base.lower() == given.lower():
        return ""
    return next((why for pattern, why in _BINDING.items() if re.fullmatch(pattern, base.lower())), "")
