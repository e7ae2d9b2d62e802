"""Where a visit came from: PostHog's channel types, as SQL over a dictionary of well-known names.

PostHog sorts a visit by its campaign tags, its click ids and the domain it came from
(https://posthog.com/docs/data/channel-type). What a domain or a tag stands for is looked up in a dictionary that each
project's database holds (`ddl`): first the whole name, then its registered domain. PostHog's own list has some 2,000
names, most of them apps and long-gone networks; this one has those that a web site meets today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .schema import quote_literal

_SOURCES = {
    "Search": """
        google google.com bing bing.com cn.bing.com yahoo yahoo.com yahoo.co.jp duckduckgo duckduckgo.com ecosia.org
        baidu baidu.com m.baidu.com yandex yandex.ru yandex.com yandex.by yandex.kz yandex.ua yandex.uz yandex.fr
        yandex.com.tr naver naver.com daum daum.net sogou sogou.com so.com 360.cn seznam seznam.cz qwant qwant.com
        lite.qwant.com search.brave.com startpage.com ask ask.com aol search.aol.com search.aol.co.uk dogpile
        dogpile.com excite.com lycos lycos.com rambler rambler.ru rakuten rakuten.co.jp search.xyz presearch.com
        presearch.io yep.com coccoc.com kagi.com andisearch.com metager.org character.ai chatglm.cn deepseek.com
        doubao.com duck.ai grok.com iask.ai copilot.cloud.microsoft lens.google.com news.google.com play.google.com
        search.google.com com.google.android.googlequicksearchbox
    """,
    "Shopping": """
        amazon amazon.com amazon.co.uk alibaba alibaba.com m.alibaba.com 1688.com aliexpress.com ebay ebay.com
        ebay.co.uk ebay.com.au ebay.de etsy etsy.com walmart walmart.com target.com bestbuy.com shopify shopify.com
        apps.shopify.com shop.app shopping shopping.yahoo.com shopping.yahoo.co.jp shopping.google.com shopee.com
        shein.com temu.com taobao.com tmall.com jd.com mercadolibre.com mercadolivre.com.br zalando.com allegro.pl
        bol.com cdiscount.com coupang.com depop.com poshmark.com vinted.com wildberries.ru ozon.ru shopzilla
        shopzilla.com backmarket.com americanas.com.br casasbahia.com.br whatnot.com zalora.com stripe stripe.com
        checkout.stripe.com s3.amazonaws.com
    """,
    "Social": """
        facebook facebook.com fb fb.me l.facebook.com lm.facebook.com m.facebook.com com.facebook.katana messenger.com
        instagram instagram.com l.instagram.com ig threads.net threads.com twitter twitter.com t.co x.com linkedin
        linkedin.com lnkd.in com.linkedin.android reddit reddit.com old.reddit.com out.reddit.com redd.it
        com.reddit.frontpage pinterest pinterest.com pinterest.co.uk pinterest.de pinterest.fr pinterest.es
        pinterest.it pin.it tiktok tiktok.com snapchat snapchat.com whatsapp whatsapp.com web.whatsapp.com wa.me
        telegram telegram.org t.me web.telegram.org discord.com discord.gg quora quora.com tumblr tumblr.com medium.com
        news.ycombinator.com producthunt.com stackoverflow stackoverflow.com stackexchange.com askubuntu.com
        serverfault.com superuser.com github.com behance.net dribbble.com deviantart deviantart.com artstation.com
        slideshare.net scribd scribd.com goodreads goodreads.com meetup meetup.com nextdoor.com yelp yelp.com
        tripadvisor tripadvisor.com foursquare foursquare.com flickr flickr.com blogger blogger.com blogspot.com
        wordpress wordpress.com wordpress.org livejournal livejournal.com hubpages.com digg digg.com slashdot.org
        mastodon.social hachyderm.io bsky.app bluesky vk vk.com vkontakte.ru ok.ru dzen.ru weibo weibo.com
        xiaohongshu.com xhslink.com douban douban.com zhihu zhihu.com qzone.qq.com wx.qq.com line.me zalo zalo.me
        ameblo.jp xing xing.com skype web.skype.com hootsuite hootsuite.com yammer yammer.com groups.google.com
        googlegroups.com sites.google.com plus.google.com messages.google.com producthunt wikihow.com fandom.com
        researchgate.net academia.edu disqus disqus.com bit.ly social houzz houzz.com answers.yahoo.com
    """,
    "Video": """
        youtube youtube.com m.youtube.com music.youtube.com youtu.be vimeo vimeo.com dailymotion dailymotion.com
        twitch twitch.tv netflix netflix.com hulu hulu.com disneyplus disneyplus.com wistia wistia.com fast.wistia.net
        rumble.com rutube.ru bilibili.com b23.tv youku youku.com iqiyi iqiyi.com crackle crackle.com d.tube
        ted ted.com utreon.com curiositystream curiositystream.com sooplive.com
    """,
    "Email": """
        mail.google.com com.google.android.gm mail.yahoo.com mail.aol.com mail.aol.co.uk outlook.com outlook.live.com
        outlook.office.com outlook.office365.com mail.proton.me com.apple.mobilemail com.microsoft.office.outlook
    """,
    "AI": """
        ai.perplexity.app chatgpt.com claude.ai copilot.microsoft.com gemini.google.com meta.ai perplexity.ai pi.ai
        poe.com you.com
    """,
}
"""Names of sources (``utm_source`` or referring domain) by the type of domain."""

_IF_PAID: Mapping[str, str | None] = {
    "Search": "Paid Search",
    "Shopping": "Paid Shopping",
    "Social": "Paid Social",
    "Video": "Paid Video",
    "Email": None,
    "AI": None,
}
_IF_ORGANIC = {
    "Search": "Organic Search",
    "Shopping": "Organic Shopping",
    "Social": "Organic Social",
    "Video": "Organic Video",
    "Email": "Email",
    "AI": "AI Assistant",
}

_TAGGED_SOURCES = {"email": "Email", "e-mail": "Email", "e_mail": "Email", "e mail": "Email", "sms": "SMS"}
"""Values of ``utm_source`` that are no domains."""

_MEDIUMS: Mapping[str | None, Mapping[str, tuple[str, ...]]] = {
    None: {
        "Affiliate": ("affiliate", "partnership", "partnerships"),
        "Audio": ("audio",),
        "Email": ("email", "e-mail", "e_mail", "e mail"),
        "Push": ("push", "mobile", "notification"),
        "Referral": ("app", "link", "referral"),
        "SMS": ("sms",),
    },
    "Display": {"Display": ("banner", "cpm", "display", "expandable", "interstitial")},
    "Paid Social": {
        "Organic Social": (
            "sm",
            "social",
            "social media",
            "social network",
            "social-media",
            "social-network",
        )
    },
    "Paid Video": {"Organic Video": ("video",)},
}
"""Values of ``utm_medium``, by the channel they stand for if paid and if not."""

_DICTIONARY = "channel_definitions"
_SHOP = "'^(.*(([^a-df-z]|^)shop|shopping).*)$'"


@dataclass(frozen=True)
class Visit:
    """SQL of what is known of how a visit began; texts may be NULL.

    Attributes:
        source: ``utm_source``.
        medium: ``utm_medium``.
        campaign: ``utm_campaign``.
        referring_domain: The domain that it came from, ``$direct`` for none.
        has_gclid: Whether Google's click id was there.
        has_fbclid: Whether Facebook's was.
        gad_source: ``gad_source``.
    """

    source: str
    medium: str
    campaign: str
    referring_domain: str
    has_gclid: str
    has_fbclid: str
    gad_source: str


def ddl(database: str) -> str:
    """The statement that creates the dictionary of names."""
    rows = [
        *(
            (name, "source", kind, _IF_PAID[kind], _IF_ORGANIC[kind])
            for kind, n in _SOURCES.items()
            for name in n.split()
        ),
        *((name, "source", None, None, channel) for name, channel in _TAGGED_SOURCES.items()),
        *(
            (name, "medium", None, paid, organic)
            for paid, channels in _MEDIUMS.items()
            for organic, names in channels.items()
            for name in names
        ),
    ]
    printed = ", ".join(f"({', '.join('NULL' if v is None else quote_literal(v) for v in row)})" for row in rows)
    columns = (
        "name String, kind String, domain_type Nullable(String), if_paid Nullable(String), if_organic Nullable(String)"
    )
    query = f"SELECT * FROM values({quote_literal(columns)}, {printed})"
    return (
        f"CREATE DICTIONARY IF NOT EXISTS {database}.{_DICTIONARY} ({columns}) PRIMARY KEY name, kind "
        f"SOURCE(CLICKHOUSE(QUERY {quote_literal(query)})) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"
    )


def lookup(database: str, attribute: str, kind: str, name: str) -> str:
    """SQL that looks one name up.

    Args:
        database: The project's database.
        attribute: ``domain_type``, ``if_paid`` or ``if_organic``.
        kind: ``source`` for a domain or ``utm_source``, ``medium`` for a ``utm_medium``.
        name: SQL of the name, which may be NULL.
    """

    def found(key: str) -> str:
        return f"dictGetOrNull('{database}.{_DICTIONARY}', '{attribute}', ({key}, '{kind}'))"

    text = f"ifNull({name}, '')"
    if kind == "medium":
        return found(text)
    # Google alone has a domain in nearly every country.
    google = found(f"if(firstSignificantSubdomain({text}) = 'google', 'google', '')")
    return f"coalesce({found(text)}, {found(f'cutToFirstSignificantSubdomain({text})')}, {google})"


def domain_type(database: str, domain: str) -> str:
    """SQL of the type of a referring domain: ``Search``, ``Social``, ... , ``$direct`` or NULL."""
    return f"if({domain} = '$direct', '$direct', {lookup(database, 'domain_type', 'source', domain)})"


def channel_type(database: str, visit: Visit) -> str:
    """SQL of the channel of a visit, by the rules of PostHog's ``channel_type.py``; never NULL."""
    source, medium, campaign = (_tag(tag) for tag in (visit.source, visit.medium, visit.campaign))
    domain, gad_source = visit.referring_domain, _filled(visit.gad_source)
    is_paid = (
        f"{medium} IN ('cpc', 'cpm', 'cpv', 'cpa', 'ppc', 'retargeting') OR startsWith({medium}, 'paid') "
        f"OR {visit.has_gclid} OR {gad_source} IS NOT NULL"
    )
    is_direct = (
        f"{domain} = '$direct' AND {medium} IS NULL AND NOT {visit.has_fbclid} "
        f"AND ({source} IS NULL OR {source} IN ('(direct)', 'direct', '$direct'))"
    )

    def known(attribute: str, shopping: str) -> str:
        return (
            f"{lookup(database, attribute, 'source', source)}, if(match({campaign}, {_SHOP}), '{shopping}', NULL), "
            f"{lookup(database, attribute, 'medium', medium)}, {lookup(database, attribute, 'source', domain)}"
        )

    paid = (
        f"coalesce({known('if_paid', 'Paid Shopping')}, multiIf({gad_source} = '1', 'Paid Search', "
        f"match({campaign}, 'video'), 'Paid Video', {visit.has_fbclid}, 'Paid Social', 'Paid Unknown'))"
    )
    organic = (
        f"coalesce({known('if_organic', 'Organic Shopping')}, multiIf(match({campaign}, 'video'), 'Organic Video', "
        f"match({medium}, 'push$'), 'Push', {visit.has_fbclid}, 'Organic Social', {domain} = '$direct', 'Direct', "
        f"{domain} IS NOT NULL, 'Referral', 'Unknown'))"
    )
    return (
        f"multiIf(match({campaign}, 'cross-network'), 'Cross Network', {is_paid}, {paid}, "
        f"{is_direct}, 'Direct', {organic})"
    )


def _filled(text: str) -> str:
    return f"nullIf(nullIf({text}, ''), 'null')"


def _tag(text: str) -> str:
    return f"lower({_filled(text)})"
