"""What is in an archive, as tools that people can start."""

from dit4c_p2p.images.load import LoadedImage, tools_of

ID = "sha256:" + "1" * 64


def names(*tags):
    return [tool.name for tool in tools_of(LoadedImage(ID, tag, serves=True) for tag in tags)]


def test_ours_are_called_as_ever():
    (tool,) = tools_of([LoadedImage(ID, "dit4c/terminal:local", serves=True)])
    assert (tool.name, tool.title, tool.icon, tool.image) == ("terminal", "Terminal", ">_", ID)


def test_others_say_what_they_are_or_are_called_by_their_name():
    said = LoadedImage(ID, "r.example:5000/lab/R_Studio:4.3", True, "R Studio", "R, in a browser.")
    (tool,) = tools_of([said])
    assert (tool.name, tool.title, tool.icon) == ("r-studio", "R Studio", "R")
    assert tool.description == "R, in a browser."
    (silent,) = tools_of([LoadedImage(ID, "lab/voila-server:1", serves=True)])
    assert (silent.name, silent.title, silent.icon) == ("voila-server", "Voila server", "V")
    (nameless,) = tools_of([LoadedImage(ID, "", serves=True)])
    assert nameless.name == "tool"


def test_each_has_a_name_of_its_own():
    assert names("a/lab:1", "b/lab:1", "c/lab:2") == ["lab", "lab-2", "lab-3"]
    long = "x" * 60
    assert names(long, long) == ["x" * 40, "x" * 36 + "-2"]


def test_what_serves_nothing_is_no_tool():
    assert tools_of([LoadedImage(ID, "dit4c/infra:local", serves=False)]) == []
