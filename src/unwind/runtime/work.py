"""What a process counts of its own work, by name: what each figure means. They are exported as `unwind_NAME_total`."""

WORK = {
    "attempts_parked": "Attempts set aside since their participant answers nobody",
    "commands": "Commands that participants of this process were given",
    "commands_held_back": "Commands not sent for now since their participant answers nobody",
    "commands_repeated": "Commands that were answered from the barrier, since they had been handled before",
    "conflicts": "Decisions lost to another worker, and made again",
    "dead_letters": "Commands set aside since no participant of this process can ever handle them",
    "follow_up_failed": "Batches after whose commit something could not be sent; wake-ups make it good",
    "replies_without_effect": "Answers that changed nothing: late, repeated, foreign",
    "resent": "Sagas whose unanswered commands were sent again",
    "set_aside": "Times a saga was left alone for a while because the store refused its data",
    "starts_rejected": "Starts turned away because too much was waiting",
    "status_cache_failed": "Calls to Redis for the status cache that failed",
    "status_hits": "Status reads that Redis answered",
    "status_misses": "Status reads that the store answered",
    "status_news": "Changed statuses told to Redis",
    "status_news_dropped": "Changed statuses not told to Redis, since too many waited",
    "status_not_understood": "Answers of Redis that were no status",
    "store_unavailable": "Batches that the store could not take; each is tried again",
    "wake_ups": "Timers of sagas that came due and were taken",
}
