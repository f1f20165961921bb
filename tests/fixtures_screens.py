"""The error that each screen which the sandbox can show is met with."""

from errors import Banned, LoggedOut, Offline, OpenElsewhere, PageCrashed, PageHung, SendError, UiChanged, UnknownDialog

#: what is raised for an account whose page shows it when a message is due; None is nothing, and the message goes out
MEETS: dict[str, type[SendError] | None] = {
    "loading": PageHung,
    "syncing": PageHung,
    "logging_out": PageHung,
    "crashed": PageCrashed,
    "offline": Offline,
    "connecting": Offline,
    "proxy_blocked": Offline,
    "unavailable": Offline,
    "disk_full": Offline,
    "banned": Banned,
    "conflict_window": OpenElsewhere,
    "conflict_tab": OpenElsewhere,
    "conflict_browser": OpenElsewhere,
    "unsupported": UiChanged,
    "deprecated": UiChanged,
    "unknown": UiChanged,
    "whats_new": None,
    "update": UnknownDialog,
    "unknown_dialog": UnknownDialog,
    "post_logout": LoggedOut,
    "database_error": LoggedOut,
    "sync_issue": LoggedOut,
    "link_failed": LoggedOut,
}
