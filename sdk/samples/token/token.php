<?php
// PHP, without a package: php token.php APP USER, with the secret in PARLANCE_APP_SECRET.
declare(strict_types=1);

function base64url(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

/** A token that lets the user log in for an hour. */
function issueToken(string $secret, string $app, string $user, int $lifeSeconds = 3600): string
{
    $now = time();
    $claims = ['app' => $app, 'sub' => $user, 'iat' => $now, 'exp' => $now + $lifeSeconds];
    $signed = base64url('{"alg":"HS256","typ":"JWT"}') . '.' . base64url(json_encode($claims, JSON_THROW_ON_ERROR));
    return $signed . '.' . base64url(hash_hmac('sha256', $signed, $secret, true));
}

echo issueToken(getenv('PARLANCE_APP_SECRET'), $argv[1], $argv[2]), "\n";
