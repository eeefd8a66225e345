"""A stub of Google Cloud: a gcloud that records its calls and plays back answers.

The real gcloud is out of reach: PATH is one folder with the stubs and the few programs that the scripts may use.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ("config.sh", "keep_running.sh", "machine.sh", "on_host.sh")
PROGRAMS = (
    "bash",
    "cat",
    "cp",
    "date",
    "dirname",
    "env",
    "flock",
    "git",
    "grep",
    "gzip",
    "hostname",
    "id",
    "kill",
    "mkdir",
    "mktemp",
    "rm",
    "sed",
    "setsid",
    "sort",
    "tail",
    "tar",
    "test",
    "true",
    "uname",
    "wc",
)
RECIPE = "gin/medium_small.gin"

AT = "--project=p --zone=z"
GPU = dict(KIND="gpu", NAME="gpu", ACCELERATOR="a2-highgpu-8g")
POD = dict(ACCELERATOR="v5litepod-16")
QUEUED = dict(QUEUED="1", SPOT="1")
SECRET = "not for any command line"

# A command on hosts is run for real, each host a folder, where the test has made such folders.
GCLOUD = r"""#!/usr/bin/env bash
{ printf '%q ' gcloud "$@"; echo; } >>"$STUB/calls"
on_host() { # NUMBER
    case $all in
        *" scp "*) cp "${files[0]}" "$STUB/hosts/$1/explainft.tar.gz" ;;
        *) (cd "$STUB/hosts/$1" && HOME=$PWD bash -c "$line") || exit ;;
    esac
}
all="$* " line="" worker=0 files=()
for word in "$@"; do
    case $word in
        --command=*) line=${word#--command=} ;;
        --worker=*) worker=${word#--worker=} ;;
        *.tar.gz) files+=("$word") ;;
        gpu-[0-9]) worker=${word#gpu-} ;;
    esac
done
if [[ -d $STUB/hosts && ( $all == *" ssh "* || $all == *" scp "* ) ]]; then
    for host in "$STUB"/hosts/*; do
        [[ $worker != all && $worker != "${host##*/}" ]] || on_host "${host##*/}"
    done
    exit
fi
case $all in
    *"queued-resources describe"*) script=queue ;;
    *" describe "*) script=states ;;
    *" create "*) script=creates ;;
    *"on_host.sh status"*) script=jobs ;;
    *) exit 0 ;;
esac
answer=""
if [[ -s $STUB/$script ]]; then
    read -r answer <"$STUB/$script"
    sed -i 1d "$STUB/$script"
elif [[ $script != creates ]]; then
    answer=OFFLINE
fi
case $answer in
    MISSING) echo "ERROR: NOT_FOUND: Resource 'x' was not found" >&2; exit 1 ;;
    OFFLINE | FAILS) echo "ERROR: gcloud crashed" >&2; exit 1 ;;
    "") ;;
    *) printf '%b\n' "$answer" ;;
esac
"""
# Of a host. What is mounted, and whether gcsfuse is installed, are files in the home folder.
SUDO = r"""#!/usr/bin/env bash
{ echo "sudo $*"; [[ $1 != tee ]] || cat; } >>"$HOME/as_root"
[[ $* != *"apt-get "*" update" || ! -e $HOME/locked ]] || { rm "$HOME/locked"; exit 100; }
[[ $* != *"install --yes gcsfuse" ]] || echo "--metadata-cache-negative-ttl-secs" >"$HOME/gcsfuse_flags"
"""
GCSFUSE = r"""#!/usr/bin/env bash
[[ $* != --help ]] || exec cat "$HOME/gcsfuse_flags"
[[ ! -e /proc/$$/fd/9 ]] || echo "holds the lock" >>"$HOME/mounts"
echo "gcsfuse $*" >>"$HOME/mounts"
bucket="${!#}"
bucket=${bucket##*/}
[[ $bucket != forbidden ]] || { echo "starting"; echo "403: no access"; exit 1; } >&2
: >"$HOME/mounted_$bucket"
"""
MOUNTPOINT = r"""#!/usr/bin/env bash
[[ $2 == /mnt/explainft/* && -e $HOME/mounted_${2##*/} ]]
"""
CURL = """#!/usr/bin/env bash
echo "key of $*"
"""
# No test waits. A loop that should have ended does end.
SLEEP = r"""#!/usr/bin/env bash
echo "sleep $1" >>"$STUB/calls"
[[ $(wc -l <"$STUB/calls") -lt 100 ]]
"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Cloud:
    def __init__(self, folder):
        self.folder, self.programs, self.checkout = folder, folder / "bin", folder / "check out"
        for name in SCRIPTS:
            write_program(self.checkout / "tpu_scripts" / name, (ROOT / "tpu_scripts" / name).read_text())
        for name in (RECIPE, "gin/eval_small.gin"):
            write_program(self.checkout / name, "")
        write_program(self.programs / "gcloud", GCLOUD)
        write_program(self.programs / "sleep", SLEEP)
        write_program(self.programs / "sudo", SUDO)
        write_program(self.programs / "gcsfuse", GCSFUSE)
        write_program(self.programs / "mountpoint", MOUNTPOINT)
        write_program(self.programs / "curl", CURL)
        write_program(self.programs / "apt-get", "")
        for name in PROGRAMS:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        person = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.settings = {"PATH": str(self.programs), "HOME": str(folder), "STUB": str(folder), **person}
        self.settings |= {"HF_TOKEN": SECRET, "GOOGLE_APPLICATION_CREDENTIALS": SECRET}
        self.settings |= dict(NAME="tpu", PROJECT="p", ZONE="z", ACCELERATOR="v5litepod-8", MODEL_DIR="gs://b/run")
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=all")
        self.commit = self.git("rev-parse", "HEAD").stdout.strip()

    def git(self, *words):
        command = [str(self.programs / "git"), *words]
        return subprocess.run(
            command, cwd=self.checkout, env=self.settings, check=True, capture_output=True, text=True, timeout=60
        )

    def answers(self, **scripts):
        for name, lines in scripts.items():
            (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    def hosts(self, n):
        """Folders that play hosts; the program explainft there notes how it was called and does what job.sh says."""
        for i in range(n):
            write_program(
                self.host(i) / "explainft_env/bin/explainft",
                '#!/usr/bin/env bash\n{ env --null; printf "%s\\0" "$@"; } >"$HOME/seen"\n. "$HOME/job.sh"\n',
            )
            (self.host(i) / "job.sh").write_text("")
            (self.host(i) / "gcsfuse_flags").write_text("--metadata-cache-negative-ttl-secs\n")
            shutil.copytree(self.checkout / "tpu_scripts", self.host(i) / "explainft" / "tpu_scripts")

    def host(self, i):
        return self.folder / "hosts" / str(i)

    def run(self, script, *words, expected=0, **settings):
        (self.folder / "calls").write_text("")
        command = [str(self.checkout / "tpu_scripts" / script), *words]
        environment = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        run = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == expected, run.stdout + run.stderr
        assert SECRET not in run.stdout + run.stderr + (self.folder / "calls").read_text()
        return run

    def machine(self, *words, expected=0, **settings):
        """What gcloud was asked, without the first words that all commands share."""
        self.run("machine.sh", *words, expected=expected, **settings)
        return self.calls()

    def calls(self):
        lines = re.sub(r"/\S+/explainft\.tar\.gz", "ARCHIVE", (self.folder / "calls").read_text()).splitlines()
        return [" ".join(shlex.split(line)).removeprefix("gcloud compute ") for line in lines]
