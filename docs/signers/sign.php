<?php
// Signs a link; $ring is the LINK_KEYS text, whose first key signs. $more: dl, dn, ep, ip (docs/links.md).
function sign(string $ring, string $key, int $exp, int $now, array $more = []): string
{
    [$kid, $secret] = explode(':', explode(',', $ring)[0]);
    $params = array_merge($more, ['exp' => $exp, 'kid' => $kid]);
    ksort($params, SORT_STRING);
    if ($exp <= $now || $exp > $now + 7 * 86400 || strlen($key) > 512 || str_starts_with($key, 'temp/'))
        throw new InvalidArgumentException('no such link may exist');
    if (!preg_match('~^[\w./-]+$~D', $key) || array_intersect(['', '.', '..'], explode('/', $key)))
        throw new InvalidArgumentException('not an object key');
    foreach ($params as $name => $value)
        if (!preg_match('~^[\w.-]{1,128}$~D', (string) $value)) throw new InvalidArgumentException("not a value: $name");
    $query = array_map(fn ($name, $value) => "$name=$value", array_keys($params), array_values($params));
    $lines = implode("\n", ['signet-link-v1', "/$key", ...$query]) . "\n";
    $mac = base64_encode(hash_hmac('sha256', $lines, base64_decode($secret), true));
    return "/$key?" . implode('&', [...$query, 'sig=' . rtrim(strtr($mac, '+/', '-_'), '=')]);
}
