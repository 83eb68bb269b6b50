"""python -P dvc_pull.py PATH ...: `dvc pull` of these paths of the working directory.

DVC's own command line imports every command that it has, and with `--quiet` says nothing of an error. Run by its path
and importing DVC only: the working directory is a project, whose modules must not be imported here.
"""

import sys


def main() -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.pull(targets=sys.argv[1:])
    except DvcException as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
