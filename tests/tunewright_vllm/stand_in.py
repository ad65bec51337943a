"""A vLLM with no model in it: answers as the real server's interface does, as `HOW` in its environment says.

Words of a prompt are numbered by their length. The base answers with the letters A, B, …; an adapter with those from
the one on that its adapter_config.json calls `says`. What it is started with, and what it is asked, it writes into the
file that `SAID` names.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path

HOW = json.loads(os.environ.get("HOW", "{}"))
GIVEN = sys.argv[1:]
ERROR = "(Worker pid=7) ERROR 11-28 04:37:05 [multiproc_executor.py:1063]"


def given(name):
    return GIVEN[GIVEN.index(name) + 1]


def write(what):
    with Path(os.environ["SAID"]).open("a") as file:
        file.write(json.dumps(what) + "\n")


def adapters():
    if "--lora-modules" not in GIVEN:
        return {}
    words = GIVEN[GIVEN.index("--lora-modules") + 1 :]
    return dict(word.split("=") for word in words[: words.index("--port")])


def plugins():
    """As vLLM loads them: all that are installed, or those of a list."""
    listed = os.environ.get("VLLM_PLUGINS")
    found = entry_points(group="vllm.general_plugins")
    return [one.load() for one in found if listed is None or one.name in listed.split(",")]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            return self.say(b"")  # as the real one: no body at all
        root = given("--model")
        models = [{"id": "base", "root": HOW.get("root", root), "parent": None}]
        listed = [{"id": name, "root": path, "parent": "base"} for name, path in LORAS.items()]
        return self.say({"object": "list", "data": models + listed[: HOW.get("loras")]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        write({"path": self.path, **asked})
        if self.path == "/tokenize":
            return self.say({"tokens": self.cut(asked)} if "cuts" not in HOW else {"detail": "Not Found"})
        if "dies" in HOW:
            for line in HOW["dies"]:
                print(f"{ERROR} {line}", flush=True)
            os._exit(1)
        return self.say(self.completed(asked))

    def cut(self, asked):
        if "messages" in asked:
            assert asked["add_generation_prompt"]
            return [1, *(100 + len(word) for turn in asked["messages"] for word in turn["content"].split())]
        assert asked["add_special_tokens"]
        return [100 + len(word) for word in asked["prompt"].split()]

    def completed(self, asked):
        assert asked["temperature"] == 0
        assert self.path == "/v1/completions"
        first = SAYS[asked["model"]]
        ids = [first + place for place in range(asked["max_tokens"])]
        choice = {"index": 0, "text": "", "token_ids": ids, "finish_reason": "length"}
        if "prompt_logprobs" in asked:
            choice["prompt_logprobs"] = [None, *(self.place(t, asked["prompt_logprobs"]) for t in asked["prompt"][1:])]
        return {"model": asked["model"], "choices": [choice], "usage": {"prompt_tokens": len(asked["prompt"])}}

    def place(self, given, top):
        """The likeliest tokens are 1, 2, …, and the one that is given is told besides, as the real one does it."""
        return {str(t): {"logprob": -0.5 * t, "rank": t} for t in [*range(1, top + 1), given]}

    def say(self, what, status=200):
        text = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass


LORAS = adapters()
SAYS = {"base": 65} | {
    name: json.loads(Path(path, "adapter_config.json").read_text())["says"] for name, path in LORAS.items()
}
FILES = {file.name: file.read_text("utf-8", "replace") for file in Path(given("--model")).iterdir()}
write({"arguments": GIVEN, "environment": dict(os.environ), "files": FILES, "pid": os.getpid()})
for register in plugins() if "ignores" not in HOW else []:
    mark = sys.modules[register.__module__].MARK
    print(f"(Worker pid=7) {mark}", flush=True)
if "never" in HOW:
    print(HOW["never"], *(f"nanobind: leaked {n}" for n in range(40)), sep="\n", flush=True)
    sys.exit(3)
ThreadingHTTPServer(("127.0.0.1", int(given("--port"))), Handler).serve_forever()
