"""``/admin/storage/{tree}``: quota and home file server of a person or group, for admins alone."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from aiohttp import web

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.portal.accounts import groups, people
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services.storage import set_home_file_server, set_storage_quota
from dit4c_p2p.portal.storage.homes import MAX_QUOTA_BYTES, homes

_GIB = 1024**3


def storage_page_routes() -> list[web.RouteDef]:
    """The page and its form."""
    one = "/admin/storage/{tree}"
    return [
        web.get(one, page_handler(storage_on_storage_page, admins=True)),
        web.post(
            f"{one}/quota",
            form_handler(change_quota_on_storage_page, again=storage_on_storage_page, admins=True),
        ),
        web.post(
            f"{one}/home",
            form_handler(change_home_on_storage_page, again=storage_on_storage_page, admins=True),
        ),
    ]


async def storage_on_storage_page(call: PageCall) -> web.Response:
    """How much there may be and where it is; what was typed stays in the forms."""
    tree, title, back = await _tree_for_storage_page(call)
    defaults = call.parts.storage_defaults
    home = (await homes([tree], defaults))[tree]
    chosen = (
        _gib_for_storage_page(home.quota_bytes)
        if home.chosen_quota and home.quota_bytes is not None
        else ""
    )
    return call.page(
        "admin_storage.html",
        tree=tree,
        title=title,
        back=back,
        home=home,
        usual=defaults.quota_bytes(tree),
        servers={PeerName.parse(one.name).id: one.url for one in defaults.servers},
        form={"quota": chosen, "server": home.server or "", **call.form},
    )


async def change_quota_on_storage_page(call: PageCall) -> web.Response:
    """Another quota; none in the form is what the settings say."""
    tree, _, _ = await _tree_for_storage_page(call)
    await set_storage_quota(call.parts, tree, _quota_for_storage_page(call.form), by=call.by)
    return go_to(f"/admin/storage/{tree}")


async def change_home_on_storage_page(call: PageCall) -> web.Response:
    """Another home file server."""
    tree, _, _ = await _tree_for_storage_page(call)
    await set_home_file_server(call.parts, tree, call.form.get("server", ""), by=call.by)
    return go_to(f"/admin/storage/{tree}")


async def _tree_for_storage_page(call: PageCall) -> tuple[str, str, str]:
    """The tree, what people call it, and the page that leads here.

    :raises NotFound: no such person or group.
    """
    tree = call.path("tree")
    kind, _, id = tree.partition("-")
    if kind == "user":
        return tree, (await people.get_person(id)).name, f"/admin/people/{id}"
    if kind == "group":
        return tree, (await groups.get_group(id)).title, f"/groups/{id}"
    raise NotFound("there is no such page")


def _quota_for_storage_page(form: Mapping[str, str]) -> int | None:
    """Bytes of the form's GiB; None for an empty field.

    :raises BadRequest: not a size.
    """
    text = form.get("quota", "").strip().replace(",", ".")
    if not text:
        return None
    try:
        gib = Decimal(text)
    except InvalidOperation:
        gib = Decimal("NaN")
    if not gib.is_finite() or not 0 <= gib * _GIB <= MAX_QUOTA_BYTES:
        raise BadRequest("a quota is a number of GiB, 0 to 4194304", field="quota")
    return int(gib * _GIB)


def _gib_for_storage_page(size_bytes: int) -> str:
    return f"{Decimal(size_bytes) / _GIB:f}".rstrip("0").rstrip(".") if size_bytes else "0"
