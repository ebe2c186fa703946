"""What is in an archive, as tools that people can start."""

from dit4c_p2p.imagebuild.load import LoadedImage, read_loaded_image, tools_of_loaded_images

ID = "sha256:" + "1" * 64


def names(*tags):
    return [
        tool.name
        for tool in tools_of_loaded_images(LoadedImage(ID, tag, serves=True) for tag in tags)
    ]


def test_ours_are_called_as_ever():
    (tool,) = tools_of_loaded_images([LoadedImage(ID, "dit4c/terminal:local", serves=True)])
    assert (tool.name, tool.title, tool.icon, tool.image) == ("terminal", "Terminal", ">_", ID)


def test_others_say_what_they_are_or_are_called_by_their_name():
    said = LoadedImage(ID, "r.example:5000/lab/R_Studio:4.3", True, "R Studio", "R, in a browser.")
    (tool,) = tools_of_loaded_images([said])
    assert (tool.name, tool.title, tool.icon) == ("r-studio", "R Studio", "R")
    assert tool.description == "R, in a browser."
    (silent,) = tools_of_loaded_images([LoadedImage(ID, "lab/voila-server:1", serves=True)])
    assert (silent.name, silent.title, silent.icon) == ("voila-server", "Voila server", "V")
    (nameless,) = tools_of_loaded_images([LoadedImage(ID, "", serves=True)])
    assert nameless.name == "tool"


def test_each_has_a_name_of_its_own():
    assert names("a/lab:1", "b/lab:1", "c/lab:2") == ["lab", "lab-2", "lab-3"]
    long = "x" * 60
    assert names(long, long) == ["x" * 40, "x" * 36 + "-2"]


def test_what_serves_nothing_is_no_tool():
    assert tools_of_loaded_images([LoadedImage(ID, "dit4c/infra:local", serves=False)]) == []


def test_what_pods_are_made_of_is_known_by_its_name():
    tags = ("dit4c/auth:local", "dit4c/infra:local", "dit4c/terminal:local", "lab/auth:local")
    parts = [LoadedImage(ID, tag, serves=False).is_part for tag in tags]
    assert parts == [True, True, False, False]


def test_a_label_is_shown_without_what_a_terminal_would_obey():
    """security.md 1: whoever made an image wrote its labels."""
    labels = {"org.opencontainers.image.title": "R \x1b]0;x\x07Stu\x9bdio\u202e\n Zoë"}
    assert (
        read_loaded_image("", {"Id": ID, "Config": {"Labels": labels}}).title == "R ]0;xStudio Zoë"
    )
