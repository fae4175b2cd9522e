"""Where the guarded application is asked, and what hostile rows say."""

PORT = 8732
TOKEN = "the-token"
ORIGIN = f"http://127.0.0.1:{PORT}"

ATTACKS = (
    "<script>document.title='owned'</script> planted needle",
    "<img src=x onerror=\"document.title='owned'\">",
    "<svg onload=\"document.title='owned'\"><style>*{display:none}</style></svg>",
    "</bdi></a></th></tr></table><h1>gone</h1>",
    "\u202egnp.exe\u2066 zero\u200bwidth\ufeff nul\x00",
    '"><a href="javascript:document.title=\'owned\'">click</a>',
)
