"""scripts/dashboard.py against a server that answers like W&B's."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.cli.conftest import ROOT

pytestmark = pytest.mark.slow

KEY = "0" * 40
PROJECT = {
    "__typename": "Project",
    "id": "UHJvamVjdA==",
    "name": "digits",
    "entityName": "team",
    "createdAt": "2026-01-31",
    "isBenchmark": False,
    "user": None,
}


@pytest.fixture
def server():
    """The server's address, and the operations that it received; it has the project team/digits."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            data = {}
            if self.path == "/graphql":
                request = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
                asked.append((operation, request.get("variables")))
                if operation == "Viewer":
                    data = {"viewer": {"id": "me", "username": "me", "email": "", "flags": "{}", "admin": False}}
                elif operation == "GetProject":
                    known = request["variables"] == {"entity": "team", "name": "digits"}
                    data = {"project": PROJECT if known else None}
                elif operation == "UpsertView2":
                    view = {"id": "Vmlldw==", "name": request["variables"]["name"]}
                    data = {"upsertView": {"view": view, "inserted": True}}
            text = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.smoke
def test_a_dry_run_prints_what_is_sent(command, server, tmp_path):
    address, asked = server
    arguments = ["entity=team", "project=digits", "objective=val/acc", "name=Mine"]
    printed = command("scripts/dashboard.py", *arguments, "dry_run=true", HOME=str(tmp_path), WANDB_BASE_URL=address)
    assert (printed.returncode, printed.stderr, asked) == (0, "", [])
    sent = command("scripts/dashboard.py", *arguments, WANDB_API_KEY=KEY, WANDB_BASE_URL=address)
    assert (sent.returncode, sent.stderr) == (0, ""), sent.stderr
    (view,) = [variables for operation, variables in asked if operation == "UpsertView2"]
    told, sent_spec = json.loads(printed.stdout), json.loads(view["spec"])
    assert [told[key] for key in ("entity", "project", "name")] == ["team", "digits", "Mine"]
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("team", "digits", "Mine")
    sections = sent_spec["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section["name"] for section in told["sections"]]
    panels = [len(section["panels"]) for section in told["sections"]]
    assert [len(section["panels"]) for section in sections] == panels
    # Nested keys of a run's configuration are found under `value`, below their first part.
    assert "config:optimizer.value.lr" in view["spec"]
    assert "summary:best/val/acc" in view["spec"]
    assert re.fullmatch(rf"{address}/team/digits\?nw=\w+\n", sent.stdout)


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["entity=team", "project=digits"], {}, "no W&B key"),
        (["entity=team", "project=digits"], {"WANDB_API_KEY": "abc"}, "key cannot be used"),
        (["entity=team", "project=digit"], {"WANDB_API_KEY": KEY}, "entity=team project=digit: no such project"),
        (["entity=tea", "project=digits"], {"WANDB_API_KEY": KEY}, "entity=tea project=digits: no such project"),
        (["entity=team"], {}, "project: must be given"),
        (["entity=", "project=digits", "dry_run=true"], {}, "entity=null: needs a value"),
        (["entity=''", "project=digits", "dry_run=true"], {}, "entity: must be given"),
        (["entity=team", "project=a/b c", "dry_run=true"], {}, "project=a/b c: must be a name of 1 to 128 characters"),
        (["entity=team", "project=digits"], {"WANDB_BASE_URL": "nonsense"}, "WANDB_BASE_URL=nonsense: must be"),
        (["entity=team", "projct=digits"], {}, "projct: no such key (did you mean project?)"),
        (["entity=team", "project=digits", "objective=val/los"], {}, "(did you mean val/loss?)"),
        (["entity=team", "project=digits", "settings=[optimiser.lr]"], {}, "(did you mean optimizer.lr?)"),
        (["entity=team", "project=digits", "name=🙂"], {}, "does not allow emoji"),
        (["entity=team", "project=digits", "dry_run=perhaps"], {}, "dry_run=perhaps: must be true or false"),
    ],
)
def test_a_mistake_is_one_line(command, server, tmp_path, arguments, environment, says):
    address, asked = server
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path), "WANDB_BASE_URL": address, **environment}
    result = command("scripts/dashboard.py", *arguments, **environment)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert says in result.stderr
    assert "UpsertView2" not in [operation for operation, _ in asked]


def test_a_server_that_does_not_answer_is_one_line(command):
    result = command(
        "scripts/dashboard.py",
        "entity=team",
        "project=digits",
        WANDB_API_KEY=KEY,
        WANDB_BASE_URL="http://127.0.0.1:9",
    )
    # W&B itself would try again and again; `command` does not wait for that.
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert "http://127.0.0.1:9 does not answer (Connection refused)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "lightning", "wandb", "numpy"}),
        (["entity=team", "project=digits", "dry_run=true"], {"torch", "lightning"}),
    ],
)
def test_the_script_imports_only_what_it_needs(arguments, absent):
    code = f"""
import runpy, sys
sys.argv = {["dashboard.py", *arguments]!r}
try:
    runpy.run_path({str(ROOT / "scripts" / "dashboard.py")!r}, run_name="__main__")
except SystemExit:
    pass
print("IMPORTED", sorted(set(sys.modules) & {absent!r}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "entity" in result.stdout
    assert result.stdout.endswith("IMPORTED []\n")
