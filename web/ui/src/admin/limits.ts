// From which share on something that fills up is shown as filling, and as full: as the alert rules disk.os.used and
// disk.data.used have it (tests/unit/ui/test_pages.py compares).

export const WARN_PERCENT = 85;
export const BAD_PERCENT = 95;
