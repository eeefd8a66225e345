"""Commands in the tests' own process."""

from explainft.cli.main import main


def outcome(capfd, *words) -> tuple[int, str, str]:
    """Returns the exit code, standard output and standard error of a command."""
    capfd.readouterr()
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as e:
        code = e.code
    return code, *capfd.readouterr()
