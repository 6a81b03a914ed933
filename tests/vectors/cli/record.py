#!/usr/bin/env python3
"""Records how others read command lines; see PROVENANCE.

    record.py getopt  >getopt.jsonl     Python's getopt.gnu_getopt, anywhere
    record.py refusals >refusals.jsonl  systemd-sysupdate 262, where it is installed
    record.py guesses >guesses.jsonl    systemd-sysupdate and varlinkctl 262
    record.py tables TOOL >TOOL.json    option table of a tool, without its texts
"""
import getopt, json, random, subprocess, sys

SYSUPDATE = "/usr/lib/systemd/systemd-sysupdate"
SHORTS = "hqvm:C:"
LONGS = ["help", "quiet", "verify=", "version", "root=", "root-hash=", "no-pager", "no-legend",
         "instances-max=", "component=", "component-all", "json="]
PIECES = ["-h", "-q", "-v", "-qv", "-hqv", "-m", "-m3", "-m=3", "-qm", "-qm7", "-qvm7", "-C", "-Cx", "-vC",
          "-C-", "-x", "-qx", "-xq", "-mq", "--help", "--he", "--h", "--help=1", "--quiet", "--q", "--q=",
          "--verify", "--verify=no", "--verif", "--ver", "--vers", "--version", "--version=", "--root",
          "--root=/a", "--root=", "--roo", "--roo=/b", "--root-", "--root-hash=ab", "--root-h", "--r=/c",
          "--no", "--no-p", "--no-pager", "--no-pager=x", "--no-legend", "--n=1", "--instances-max=2",
          "--instances-max", "--inst", "--i=9", "--comp", "--component", "--component=a=b", "--component-all",
          "--component-a", "--c", "--json=short", "--json", "--j=", "--bogus", "--bogus=1", "---help", "--",
          "-", "", "list", "a", "help", "-1", "x=y", "--helper", "/p", "--rootx"]


def gnu(args):
    try:
        options, operands = getopt.gnu_getopt(args, SHORTS, LONGS)
    except getopt.GetoptError as err:
        kinds = {"not recognized": "unrecognized", "requires argument": "needs-argument",
                 "must not have an argument": "takes-no-argument", "not a unique prefix": "ambiguous"}
        kind = next(kind for text, kind in kinds.items() if text in err.msg)
        return {"args": args, "refused": kind}
    return {"args": args, "options": options, "operands": operands}


def say(value):
    print(json.dumps(value, ensure_ascii=False))


def run(tool, *args):
    return subprocess.run([tool, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")


def random_lines(seed, count, pieces, longest):
    draw, seen = random.Random(seed), set()
    while len(seen) < count:
        line = tuple(draw.choice(pieces) for _ in range(draw.randint(0, longest)))
        if line not in seen:
            seen.add(line)
            yield list(line)


def main():
    what = sys.argv[1]
    if what == "getopt":
        for line in random_lines(262, 1500, PIECES, 6):
            say(gnu(line))
    elif what == "refusals":
        pieces = ["-h", "-A", "-a", "-s", "-Aa", "-As", "-m", "-m2", "-Cx", "-AC", "-AaCy", "-x", "-Ax", "-xA",
                  "-A-", "-?", "--help", "--he", "--help=1", "--version", "--vers", "--vers=1", "--ver", "--verify",
                  "--verify=no", "--verif=no", "--root=/", "--root", "--roo=/", "--r", "--re", "--reb", "--no",
                  "--no-p", "--no-l=3", "--no-legend", "--comp", "--comp=x", "--component", "--component=x",
                  "--component-a", "--component-s=1", "--feature", "--feature-a", "--i", "--image", "--im=x", "--ins",
                  "--inst=4", "--intro=x", "--defin", "--defin=/d", "--s", "--sync=yes", "--c=x", "--cl=no", "--j",
                  "--json=short", "--bogus", "--bogus=3", "---help", "--=x", "--=", "--o", "--offline=", "--", "-",
                  "", "list", "nope", "--é", "--transfer-source", "--t=/s", "-S", "-C"]
        for line in random_lines(2621, 900, pieces, 4):
            # What is asked last ends a command line that was read to its end.
            args = line if "--" in line else [*line, "--version"]
            done = run(SYSUPDATE, *args)
            if done.stderr.startswith("systemd-sysupdate: "):
                say({"args": args, "says": done.stderr.rstrip("\n")})
            elif done.stdout.startswith("systemd 262"):
                say({"args": args, "answers": "version"})
            elif done.stdout.startswith("> "):
                say({"args": args, "answers": "help"})
    elif what == "guesses":
        words = """a l u f v c p r e d ve en dis che clean comp compo enable- z zz zzzz zzzzz zzzzzz listlist features1
            featurs pendin vacuumm updte acquir rebot xreboot e-f component feature disable list-updates install
            upgrade status check chec checknew show enablefeature clear abcdefghij rm liist components1 pengo helper
            LIST List upda1 i lis list-m list-r list-s val in int intr introspec sock methods registry m s se serv h
            he hel zzzzzzz list-interface interfaces validate get set call2 CALL Info ist-methods updatectl - _ 3
            nope lst updat vaccum helpme inf lst-methods callx xyz""".split() + ["", "a b"]
        for tool in (SYSUPDATE, "varlinkctl"):
            table = json.loads(run(tool, "--introspect-cli").stdout)["commands"][0]["verbs"]
            verbs = [name for verb in table for name in verb["names"]]
            for word in words:
                if word not in verbs:
                    say({"verbs": verbs, "typed": word, "says": run(tool, "--", word).stderr.rstrip("\n")})
    elif what == "tables":
        table = json.loads(run(sys.argv[2], "--introspect-cli").stdout)
        for command in table["commands"]:
            for key in ("features", "abstract", "postscript"):
                command.pop(key, None)
            for row in command["options"] + command.get("verbs", []):
                row.pop("help", None)
                row.pop("abstract", None)
        print(json.dumps(table, indent=1, ensure_ascii=False))


main()
