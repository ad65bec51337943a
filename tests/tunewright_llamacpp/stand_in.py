"""A `llama-server` with no model in it: answers as the real one's interface does, as `HOW` in its environment says.

A word is its length and 3; an answer is the numbers 10, 11, … up to the limit, or to token 2.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

HOW = json.loads(os.environ.get("HOW", "{}"))
GIVEN = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
NAMED = ("--port", "--model", "--lora", "--ctx-size", "--parallel")
GIVEN |= {name: sys.argv[sys.argv.index(name) + 1] for name in NAMED if name in sys.argv}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        settings = {"n_ctx": int(GIVEN["--ctx-size"])}
        adapters = [{"id": 0, "path": GIVEN["--lora"], "scale": 1.0}] if "--lora" in GIVEN else []
        self.say({
            "/health": {"status": "ok"},
            "/props": {"model_path": HOW.get("model", GIVEN["--model"]), "default_generation_settings": settings},
            "/lora-adapters": HOW.get("adapters", adapters),
        }[self.path])  # fmt: skip

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/apply-template":
            if "refuses" in HOW:
                return self.say({"error": {"message": HOW["refuses"]}}, 500)
            return self.say({"prompt": "".join(f"<{turn['role']}> {turn['content']} " for turn in asked["messages"])})
        if self.path == "/tokenize":
            assert asked["add_special"] or asked["content"] == "a"
            return self.say({"tokens": [3 + len(word) for word in asked["content"].split()]})
        if "dies" in HOW:
            print(HOW["dies"], flush=True)
            os._exit(1)
        prompts = asked["prompt"] if isinstance(asked["prompt"][0], list) else [asked["prompt"]]
        together = sorted(len(prompt) + asked["n_predict"] for prompt in prompts)[-int(GIVEN["--parallel"]) :]
        if sum(together) > int(GIVEN["--ctx-size"]) or len(prompts) > HOW.get("room", len(prompts)):
            return self.say({"error": {"message": "Context size has been exceeded."}}, 500)
        said = [{**self.complete(asked, prompt), "index": place} for place, prompt in enumerate(prompts)]
        said = said[:-1] if "forgets" in HOW else said[::-1]  # as they end
        return self.say(said[0] if len(prompts) == 1 else said)

    def complete(self, asked, prompt):
        assert asked["top_k"] == 1
        echo = prompt[:1] if "echoes" in HOW else [10]
        ids = HOW.get("answer", [*echo, *range(11, 10 + asked["n_predict"])])[: asked["n_predict"]]
        said = {"tokens": ids, "stop_type": "eos" if ids[-1] == 2 else "limit", "truncated": False}
        if "n_probs" in asked:
            ((forced, by),) = asked["logit_bias"]
            assert by > 1e5
            likely = [{"id": token, "logprob": -0.5 * token} for token in range(500)]
            likely[499]["logprob"] = -3.4e38
            # of 300, as of a token that ends within a character, nothing is told
            told = [{**likely[forced], "top_logprobs": likely[: asked["n_probs"]]}]
            said |= {"completion_probabilities": told} if forced != 300 else {}
        return said

    def say(self, what, status=200):
        text = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass


HTTPServer(("127.0.0.1", int(GIVEN["--port"])), Handler).serve_forever()
