"""How questions ask, in seven languages: the words that ask, and what kind of answer they ask for."""

from collections.abc import Iterable

from index_builder.text import words

# Question words, particles and the commonest auxiliaries: they say nothing about the topic. Folded like all text that is compared.
_FUNCTION = """
ما ماذا متى أين اين وين كيف لماذا ليش لم من منو مين كم هل أي اي شنو شو وش ايش إيش في على عن إلى الى مع ب ل أو او أم ثم هناك كان كانت
يكون تكون هذا عند عندهم عندنا ذا أيضا بعد غير مثل حق منذ بين لكن يعني نفس الشيء الآن
কি কিয় কেনেকৈ কেতিয়া ক'ত কোন কোনে কাৰ কাক কিমান কেইটা কোনটো কোনবোৰ আৰু বা নে হয় হৈছে আছে আছিল বাবে পৰা লৈ সৈতে কৰে কৰা হ'ল নাই
এতিয়া একে তেনে বুলি কিহৰ কিহে কিহেৰে ত ও
কী কি কেন কীভাবে কিভাবে কেমন কখন কবে কোথায় কোন কে কারা কার কাকে কত কতদিন কয়টা কোনটা কোনটি না হয় আছে ছিল করে করা করেন থেকে জন্য দিয়ে
নিয়ে সঙ্গে সাথে মধ্যে ও বা নাকি তো হলো কিসের কিসে একই এখন আগে পরে
what when where why how who whom whose which is are was were do does did can could should would will the a an of in on at to for from
with by or not be been has have had also too there here now same then near about long much many time day year
क्या क्यों कैसे कब कहाँ कहां कौन किस किसे किसका किसकी किसके किसने किन कितना कितने कितनी कौन-सा कौनसा सा सी से का की के को में पर ने है
हैं था थी थे हो होता होती होते और या तो भी लिए साथ बाद पहले अब ही करते करता करती जाता जाती जाते
के किन कसरी कहिले कहाँ को कुन कसले कसलाई कसको कति कतिवटा हो हुन् छ छन् थियो थिए हुन्छ हुन्छन् गर्छ गर्छन् गर्ने गरिन्छ मा लाई ले बाट
देखि सम्म र वा पनि लागि सँग अनि के-के अब नि चाहिँ
ne nasıl neden niçin niye kim kime kimin hangi hangisi nerede nereye nereden kaç kadar mi mı mu mü midir mıdır ve veya ya da de için
ile gibi bir olarak var yok değil mi sonra önce şimdi aynı zaman oldu olur nedir kimdir neydi ise zaman saat gün yıl
"""
# kind of answer -> the words that ask for it
_KINDS = {
    "number": """many much كم কত কতগুলো কয়টা কয় কতটা কতদিন কিমান কেইটা कितने कितना कितनी कति कतिवटा kaç kadar""",
    "time": """when year date month متى سنة عام تاريخ شهر কবে কখন সালে সাল সালের তারিখ তারিখে মাসে কেতিয়া চনত চনৰ তাৰিখে মাহত कब साल सन तारीख़ तारीख महीने
        कहिले सालमा साल मिति महिना महिनाको गते zaman yıl yılda tarih tarihte ay ayda aylarda""",
    "person": """who whom whose من منو مين কে কার কাকে কারা কোনে কাৰ কাক कौन किसने किसके किसका किसे कसले कसको कसलाई kim kimin kime kimler""",
    "place": """where أين وين কোথায় ক'ত कहाँ कहां कहाँबाट nerede nereye nereden neresi""",
    "reason": """why لماذا ليش কেন কিয় क्यों किन neden niçin niye""",
    "manner": """how كيف কীভাবে কিভাবে কেমন কেনেকৈ कैसे कसरी nasıl""",
}
FUNCTION = frozenset(words(_FUNCTION))
KINDS = {kind: frozenset(words(asking)) for kind, asking in _KINDS.items()}


def kinds_of(asked: Iterable[str]) -> frozenset[str]:
    """The kinds of answer that a question in these folded words asks for; none of them when it asks "what" or "which"."""
    found = frozenset(asked)
    return frozenset(kind for kind, asking in KINDS.items() if found & asking)


def content(asked: Iterable[str]) -> list[str]:
    """The words that say what is asked about, each once, in their order."""
    return [word for word in dict.fromkeys(asked) if word not in FUNCTION]
